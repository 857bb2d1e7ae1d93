"""What frozen or fine-tuned features are worth."""
