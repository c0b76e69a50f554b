"""Starting and stopping the four servers, with Docker or without."""
