"""Every figure of a finished run, with its interval, and the page that shows them."""
