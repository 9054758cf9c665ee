// World: what the engines are configured to do, as a document would say it, and how that changes.
// compile() makes the Snapshot that control/compile would make of it; the life of slots follows
// control/compile/registry.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "common/base/random.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::sim {

inline constexpr std::string_view kFrontMac = "02:00:00:00:00:01";
inline constexpr std::string_view kBackMac = "02:00:00:00:00:02";

struct Profile {
  timing::Duration timeout{};
  uint8_t mask_v4 = 32;
  uint8_t mask_v6 = 128;
  snapshot::Recovery down = snapshot::Recovery::kPickNew;
  snapshot::Recovery at_limit = snapshot::Recovery::kPickNew;
  snapshot::Recovery draining = snapshot::Recovery::kPickNew;
  bool return_home = false;
  bool purge = true;
  bool mirrored = true;
  timing::Duration update_interval{};
};

struct ServerDocument {
  binding::ServerId id;
  net::Address address;
  snapshot::ServerSlot slot;
  snapshot::NatId nat;  // of TCP; the next one is of UDP
  uint16_t weight = 1;
  bool present = true;
  bool doomed = false;   // not present: its connections are reset, its slot is not for it any more
  bool retired = false;  // not present: its slot may still be in use
  snapshot::ServerState state = snapshot::ServerState::kUp;
  bool reachable = true;
  bool reset = false;
};

struct PoolDocument {
  net::Family family = net::Family::kV4;
  snapshot::Algorithm algorithm = snapshot::Algorithm::kRoundRobin;
  bool preserve_client = false;
  uint32_t connections_max = 0;
  bool limit_changed = false;  // since the beginning
  std::vector<ServerDocument> servers;
};

struct ScopeDocument {
  enum class State : uint8_t { kFree, kLive, kRetired } state = State::kFree;
  binding::ScopeId id;
  uint64_t since = 0;
  uint32_t pool = 0;
  Profile profile;
  // In the version before the newest.
  timing::Duration timeout_before{};
  timing::Duration update_interval_before{};
  bool was_mirrored = false;  // it ceased to be, here sooner than there
};

struct ServiceDocument {
  net::Family family = net::Family::kV4;
  net::Address vip;
  uint16_t port = 80;
  uint16_t slot = 0;
  uint32_t pool = 0;
  uint32_t scope = UINT32_MAX;
  bool present = true;
  bool per_packet = false;
  timing::Duration tcp_idle{};
  timing::Duration udp_idle{};
};

class World {
 public:
  // A cluster's has shorter timeouts and fewer clients, and scopes that are not mirrored.
  enum class Of : uint8_t { kEngine, kCluster };
  explicit World(base::Random& random, Of of = Of::kEngine);
  // The same document as another engine has it: other slots for its scopes, other versions.
  World(const World& document, uint32_t slots, uint64_t versions);

  // The document as it is now, as the next version.
  std::shared_ptr<const snapshot::Snapshot> compile();
  // Something in the document changes.
  void change();
  // Gives back slots that nobody uses any more.
  void recycle(const std::function<bool(snapshot::ServerSlot)>& server_unused,
               const std::function<bool(binding::ScopeSlot)>& scope_unused);

  uint64_t version() const { return version_; }
  const std::vector<PoolDocument>& pools() const { return pools_; }
  const std::vector<ServiceDocument>& services() const { return services_; }
  const std::vector<ScopeDocument>& scopes() const { return scopes_; }
  const std::vector<net::Address>& clients(net::Family f) const {
    return clients_[f == net::Family::kV4 ? 0 : 1];
  }
  uint32_t server_slots() const { return next_server_slot_; }
  // The identity of the server at this address; none: no server was ever there.
  binding::ServerId server_at(const net::Address& address) const;
  // Whether somebody may be let in beyond the limit of a server of this pool.
  bool may_exceed(const PoolDocument& pool) const;

 private:
  void make_clients(net::Family family);
  void make_pool(net::Family family);
  void make_service(net::Family family, uint32_t pool, uint32_t scope);
  Profile random_profile();
  uint32_t new_scope(uint32_t pool);
  ServerDocument& any_server();
  void change_server();
  void change_membership();
  void change_profile();
  void change_mask(uint32_t scope, const Profile& other);
  void retire_unused_scopes();
  void change_service();
  snapshot::Server compile_server(const PoolDocument& pool, const ServerDocument& server) const;
  void compile_slots(snapshot::Snapshot& out) const;

  base::Random& random_;
  Of of_;
  uint64_t version_ = 0;
  std::shared_ptr<const snapshot::Snapshot> newest_;
  std::vector<PoolDocument> pools_;
  std::vector<ServiceDocument> services_;
  std::vector<ScopeDocument> scopes_;  // by slot
  std::vector<net::Address> clients_[2];
  struct RetiredServer {
    binding::ServerId id;
    snapshot::ServerSlot slot;
    bool doomed = false;
  };
  std::vector<RetiredServer> retired_servers_;
  std::vector<snapshot::VsSlot> retired_services_;
  uint32_t next_server_slot_ = 0;
  uint16_t next_service_slot_ = 0;
};

}  // namespace limpet::sim
