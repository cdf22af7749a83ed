"""What is measured side by side: plain code and this project's, each in a process of its own."""
