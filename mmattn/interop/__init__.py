"""Reading other libraries' weights into our own modules."""
