"""`varpro new --from`: which columns a file holds, and a model of them that was fitted before it is written."""
