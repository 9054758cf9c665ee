// The messages between the cores of an engine (README.md, "Messages"). Fixed layouts, copied by
// value through rings.
#pragma once

#include <cstdint>

#include "common/binding/key.h"
#include "common/timing/time.h"
#include "dataplane/balance/policy.h"
#include "dataplane/snapshot/snapshot.h"

namespace limpet::replication {

// Core → home.
struct Claim {
  enum class Kind : uint8_t {
    kClaim,  // who is this key's server? answered exactly once
    kTouch,  // it is active, confirmed, or its last connection on the sender has closed
  } kind = Kind::kClaim;
  bool exact = false;      // kClaim: it has to be `proposed`
  bool if_none = false;    // kClaim, exact: unless there is a binding
  bool reserved = false;   // kClaim: the asker holds a place in the limit of `proposed`
  bool confirmed = false;  // kTouch
  bool closed = false;     // kTouch: no activity but a close, at `sent`
  bool existing = false;   // kClaim: only if there is one; refused with Reason::kNew if not
  bool datagram = false;   // kClaim: for a datagram
  binding::ScopeSlot scope;
  uint32_t serial = 0;  // what the asker has; 0: nothing
  uint32_t change = 0;
  // kClaim: balance::consistent_hash() of the client, as its pool says; what a home that has to
  // choose by consistent hashing goes by, for the key does not tell (port, mask, string).
  uint32_t choice_hash = 0;
  binding::Key key;
  binding::ServerId proposed;
  timing::Instant sent;
  uint64_t version = 0;  // the sender's snapshot
};

// Core → home, to a RECALL.
struct Answer {
  uint32_t place = 0;  // the record's, as the RECALL said
  uint32_t serial = 0;
  bool yes = false;        // the copy is gone
  bool confirmed = false;  // the handshake was seen here
  bool held = false;       // it is in use here, and was at `last`
  bool datagram = false;   // a datagram used it here
  uint32_t open = 0;
  timing::Instant last;  // now when held, else the last close
  uint64_t version = 0;
};

// Home → core.
struct Down {
  enum class Kind : uint8_t {
    kUpdate,  // this is the binding
    kRefuse,  // to a CLAIM: there is none
    kRecall,  // is the copy still needed?
    kGone,    // drop the copy
  } kind = Kind::kUpdate;
  bool answer = false;     // kUpdate: to the receiver's CLAIM
  bool reserved = false;   // kUpdate, answer: home took a place in the server's limit for the asker
  bool confirmed = false;  // kUpdate; kRecall: not embryonic
  bool give_up = false;    // kRecall: drop an idle copy; else: only tell
  balance::Reason reason = balance::Reason::kNew;  // kRefuse
  bool datagram = false;                           // kUpdate, kRecall: a datagram used it
  bool evicting = false;  // kRecall: connections of an embryonic one do not count
  binding::ScopeSlot scope;
  uint32_t place = 0;  // kRecall: the record's; kUpdate, reserved: the ServerSlot of that place
  uint32_t serial = 0;
  uint32_t change = 0;
  binding::Key key;
  binding::ServerId server;
  binding::ServerId first;
  uint64_t version = 0;
};

}  // namespace limpet::replication
