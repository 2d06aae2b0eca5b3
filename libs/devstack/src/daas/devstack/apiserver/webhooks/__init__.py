"""What kube-apiserver asks of others: token reviews, access reviews, admission reviews, and audit events."""
