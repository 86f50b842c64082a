"""What a site's labelled films may change of the score, and the guard against fooling oneself."""
