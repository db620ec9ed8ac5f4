"""All of Thespian: the actors that carry servers and supervisors, the transport, forking."""
