"""Networks: adapters and addresses, a firewall, published ports."""
