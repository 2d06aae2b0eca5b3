"""The Move package daas as typed Python calls over pysui."""
