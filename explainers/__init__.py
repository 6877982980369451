"""What mattered: parts, methods, explanation, report."""
