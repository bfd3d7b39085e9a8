"""The notifier: everyone is told once, in their words, and every notice is accounted for."""
