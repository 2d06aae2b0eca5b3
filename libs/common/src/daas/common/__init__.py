"""Subjects, messages, bus, service shell, settings, errors, Merkle trees and BCS."""
