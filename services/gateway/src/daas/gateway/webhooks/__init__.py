"""What the API server asks the gateway over HTTPS: who is this, may they, may this be stored, and what happened."""
