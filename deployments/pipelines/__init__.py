"""What tasks of one kind share between input and network: text, images, labels and generation."""
