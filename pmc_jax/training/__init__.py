"""The training step and what it needs: batches, losses, optimizer state."""
