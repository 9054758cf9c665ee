"""Documents and bootstrap files of the lab, as the engine's users write them (JSON)."""

WEB_PORT = 80
ECHO_PORT = 9053


def address(text):
    return {"addr": text, "type": "V6" if ":" in text else "V4"}


def document(servers, vips, *, timeout_s=5, profile=None, pool=None, server_options=None,
             preserve_client_ip=False, udp_idle_s=2, tcp_idle_s=300, generation=None,
             extra_profiles=(), persistent=True):
    """A document with web-v4, web-v6 (TCP 80) and echo-v4, echo-v6 (UDP 9053).

    servers: {"v4": [addresses], "v6": [...]}; vips: {"v4": address, "v6": address}.
    profile, pool: more fields of the persistence profile and of every pool.
    server_options: {address: more fields of that server}.
    """
    families = [f for f in ("v4", "v6") if vips.get(f)]
    result = {
        "ApplicationPersistenceProfile": [dict({
            "name": "sticky",
            "persistence_type": "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS",
            "server_hm_down_recovery": "HM_DOWN_PICK_NEW_SERVER",
            "ip_persistence_profile": {"timeout_seconds": timeout_s},
        }, **(profile or {})), *extra_profiles],
        "NetworkProfile": [
            {"name": "lab-tcp", "profile": {
                "type": "PROTOCOL_TYPE_TCP_FAST_PATH",
                "tcp_fast_path_profile": {"session_idle_timeout": tcp_idle_s}}},
            {"name": "lab-udp", "profile": {
                "type": "PROTOCOL_TYPE_UDP_FAST_PATH",
                "udp_fast_path_profile": {"session_idle_timeout": udp_idle_s,
                                          "snat": not preserve_client_ip}}}],
        "ApplicationProfile": [
            {"name": "lab-l4", "type": "APPLICATION_PROFILE_TYPE_L4",
             "preserve_client_ip": preserve_client_ip}],
        "Pool": [], "VsVip": [], "VirtualService": [],
    }
    if generation is not None:
        result["generation"] = generation
    for family in families:
        key = "ip_address" if family == "v4" else "ip6_address"
        result["VsVip"].append({"name": f"vip-{family}",
                                "vip": [{"vip_id": "0", key: address(vips[family])}]})
        for service, port, network in (("web", WEB_PORT, "lab-tcp"), ("echo", ECHO_PORT, "lab-udp")):
            one = {"name": f"{service}-pool-{family}", "default_server_port": port,
                   "lb_algorithm": "LB_ALGORITHM_ROUND_ROBIN",
                   "servers": [dict({"ip": address(a)}, **(server_options or {}).get(a, {}))
                               for a in servers[family]]}
            if persistent:
                one["application_persistence_profile_ref"] = \
                    "/api/applicationpersistenceprofile/?name=sticky"
            one.update(pool or {})
            result["Pool"].append(one)
            result["VirtualService"].append({
                "name": f"{service}-{family}", "services": [{"port": port}],
                "vsvip_ref": f"/api/vsvip/?name=vip-{family}",
                "pool_ref": f"/api/pool/?name={one['name']}",
                "application_profile_ref": "/api/applicationprofile/?name=lab-l4",
                "network_profile_ref": f"/api/networkprofile/?name={network}"})
    return result


def bootstrap(name, ports, *, worker_cores=(0,), control_core=0, **more):
    """A bootstrap file for an engine in a lab: no hugepages, workers that rest when idle.

    ports: {"front": (device, [addresses])}.
    """
    result = {
        "name": name,
        "control_core": control_core, "worker_cores": list(worker_cores), "idle_sleep_us": 100,
        "memory": {"hugepages": False, "size_mb": 384},
        "ports": [{"name": port, "device": device, "addresses": addresses}
                  for port, (device, addresses) in ports.items()],
        "limits": {"persistence_entries": 16384, "flows_per_worker": 16384, "packet_buffers": 16384},
        "api": {"listen": "unix:api.sock"},
    }
    result.update(more)
    return result
