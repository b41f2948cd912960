"""The parts around the network: text encoder, autoencoder, preview."""
