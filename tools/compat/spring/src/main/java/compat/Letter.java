package compat;

/** What is sent, as JSON. */
public record Letter(String to, String text) {}
