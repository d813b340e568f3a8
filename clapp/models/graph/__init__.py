"""Networks as plain lists of steps, without torch: what exports, costs and targets follow from."""
