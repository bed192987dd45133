"""What several families share: experts, latent attention, state spaces, classifiers, pooling."""
