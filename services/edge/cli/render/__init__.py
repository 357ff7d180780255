"""What the commands show, as pure functions from answers to lines of at most a given width. Nothing here prints."""
