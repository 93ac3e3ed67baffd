"""What a fit returns, how it is printed, and how it is saved."""
