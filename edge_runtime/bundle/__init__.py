"""What travels with a model: its folder, its manifest, and a site's own profile."""
