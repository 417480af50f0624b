"""What a model, scaled or not, is worth on held-back text."""
