"""What a comparison of models is made on, and what it shows."""
