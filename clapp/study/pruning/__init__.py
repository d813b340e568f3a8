"""Early stopping, and all other decisions about trials."""
