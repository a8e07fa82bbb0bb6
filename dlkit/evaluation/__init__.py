"""Numbers with the protocol they were measured under, how long they took, and the page that shows them."""
