"""Evidence bundles and the checks that a stranger makes on them."""
