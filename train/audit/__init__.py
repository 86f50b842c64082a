"""What a data set holds, and what separates its classes without being disease."""
