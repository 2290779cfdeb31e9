"""A key management entity (KME): keys by ETSI GS QKD 014, over simulated quantum links.

Roles are named as in ITU-T Y.3802: a `KeyManagementAgent` stores link key and relays keys, a
`KeySupplyAgent` hands them to applications (SAEs), and `Directory` does the controller's routing.
"""
