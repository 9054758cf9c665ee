#include "dataplane/balance/pick.h"

namespace limpet::balance {

uint32_t consistent_hash(const Client& client, snapshot::HashInput input) {
  // splitmix64's finaliser over the words.
  uint64_t h = input == snapshot::HashInput::kSourceAddressAndPort ? client.port + 1u : 0u;
  for (std::size_t i = 0; i < 4; ++i) {
    h += client.address.word(i);
    h += 0x9e3779b97f4a7c15ULL;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9ULL;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebULL;
    h ^= h >> 31;
  }
  return static_cast<uint32_t>(h >> 32);
}

}  // namespace limpet::balance
