"""Pictures that come with what a filter made of them."""
