"""Class-balanced sampling and class weights."""
