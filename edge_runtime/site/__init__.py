"""A site's own threshold, and whether its images still look as they did."""
