"""What is said of an image and where it goes: record, files, pages, pictures, audit log."""
