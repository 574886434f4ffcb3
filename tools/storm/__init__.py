"""A storm over the allocation service: traffic while its servers and processes are killed, and what became of it.

world    the servers and the service's processes           traffic  the clients, and the ledger of what they heard
chaos    who is killed, and when                           gauges   memory and connections, from time to time
verdict  the ledger against what is stored
"""
