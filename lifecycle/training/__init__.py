"""What pretraining and supervised fine-tuning share: batches of whole rows, the loop, a resume that is exact to the bit."""
