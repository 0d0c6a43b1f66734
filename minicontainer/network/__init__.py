"""Floor 2: links, bridges, addresses, ports and names of the containers' networks."""
