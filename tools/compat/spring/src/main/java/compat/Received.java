package compat;

/** A letter with the place in the topic that it had. */
public record Received(String key, Letter letter, int partition, long offset, String exception) {}
