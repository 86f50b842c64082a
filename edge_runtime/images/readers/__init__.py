"""One module per family of formats; `images.grey` chooses among them by content."""
