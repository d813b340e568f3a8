"""What a network may learn beside one fixed filter of pictures: settings, results in pairs."""
