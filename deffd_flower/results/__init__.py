"""What a run leaves behind: its files, its figures and the page that shows them."""
