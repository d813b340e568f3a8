"""What changes the weights: Adam, Levenberg-Marquardt."""
