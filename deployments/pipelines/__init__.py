"""From inputs to a network and back: tokens, images, labels and masks, shared by several tasks."""
