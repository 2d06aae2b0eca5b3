"""`daas doctor`: looks at every part of a cluster and says what is wrong and what to do."""
