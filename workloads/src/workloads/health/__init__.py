"""Questions to services, asked as their users do: each is answered only where the service does its work."""
