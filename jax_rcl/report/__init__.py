"""What a person looks at: console, TensorBoard, JSON lines, pictures, a page."""
