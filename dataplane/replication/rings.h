// Rings: what the cores of an engine and its control thread say to each other about bindings. Per
// ordered pair of cores three FIFO rings; per core one to and one from the mirror.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "common/binding/change.h"
#include "dataplane/replication/message.h"
#include "dataplane/ring/ring.h"

namespace limpet::replication {

struct Rings {
  struct Capacity {
    uint32_t claims = 1024;
    uint32_t answers = 512;  // also the credits: RECALLs that may be unanswered
    uint32_t down = 2048;
    uint32_t news = 4096;
    uint32_t merges = 4096;

    // There are as many rings as pairs of cores: of many cores each gets smaller ones. What homes
    // say beyond their ring is found again by a sweep only, half a second later, so a few homes
    // have room for what comes while the control thread has no processor: 40 ms of 200,000 new
    // bindings a second. The memory of such a ring is the same.
    static Capacity for_cores(uint32_t cores) {
      const auto share = [&](uint32_t all) { return std::max(all / cores, all / 16); };
      return {.claims = share(2048),
              .answers = share(1024),
              .down = share(4096),
              .news = std::clamp(16'384 / cores, 4096u, 8191u)};
    }
  };

  Rings(uint32_t cores, const Capacity& c, std::pmr::memory_resource* memory)
      : claims(cores, c.claims, memory),
        answers(cores, c.answers, memory),
        down(cores, c.down, memory),
        capacity(c) {
    for (uint32_t i = 0; i < cores; ++i) {
      news.emplace_back(c.news, memory);
      merges.emplace_back(c.merges, memory);
    }
  }
  static std::size_t bytes_for(uint32_t cores, Capacity c) {
    return ring::Mesh<Claim>::bytes_for(cores, c.claims) +
           ring::Mesh<Answer>::bytes_for(cores, c.answers) +
           ring::Mesh<Down>::bytes_for(cores, c.down) +
           cores * (ring::Ring<binding::Change>::bytes_for(c.news) +
                    ring::Ring<binding::Merge>::bytes_for(c.merges));
  }

  // Copies a core may have beyond the bindings there are: those whose GONE is still in a ring.
  static uint32_t surplus(uint32_t cores, Capacity c) { return (cores - 1) * (c.down + 1); }

  uint32_t cores() const { return down.members(); }

  ring::Mesh<Claim> claims;                        // core to home
  ring::Mesh<Answer> answers;                      // core to home
  ring::Mesh<Down> down;                           // home to core
  std::vector<ring::Ring<binding::Change>> news;   // home to mirror
  std::vector<ring::Ring<binding::Merge>> merges;  // mirror to home
  const Capacity capacity;
};

}  // namespace limpet::replication
