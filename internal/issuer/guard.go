package issuer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/nationtech/fleetctl/internal/issuer/store"
)

// Why a person was not let in.
var (
	errWrong   = errors.New("user name or password is wrong")
	errTooMany = errors.New("too many attempts")
)

// guard checks passwords.
type guard struct {
	store   *store.Store
	limits  *limits
	hashing chan struct{} // what may be hashed at once
	log     *slog.Logger
}

// check gives the user of a name and password. All ways to be wrong look alike
// and take alike long.
func (g *guard) check(ctx context.Context, r *http.Request, username, password string) (store.User, error) {
	name := strings.ToLower(username)
	from := source(r)
	keys := []counted{{"pair " + from + " " + name, limitPair}, {"name " + name, limitName}, {"source " + from, limitSource}}
	if len(password) > maxPassword || len(name) > maxPassword {
		return store.User{}, errWrong
	}
	if !g.limits.take(keys...) {
		g.log.Warn("sign-in refused", "op", "sign in", "user", name, "from", from, "reason", "too many attempts")
		return store.User{}, errTooMany
	}
	user, err := g.store.UserByName(ctx, name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return store.User{}, fmt.Errorf("look up user: %w", err)
	}
	known := err == nil && user.Kind == store.Human && user.Active
	hash := ""
	if known {
		hash = user.Password
	}
	select {
	case g.hashing <- struct{}{}:
	case <-ctx.Done():
		return store.User{}, ctx.Err()
	}
	right := checkPassword(hash, password)
	<-g.hashing
	if !known || !right {
		g.log.Warn("sign-in refused", "op", "sign in", "user", name, "from", from, "reason", "wrong name or password")
		return store.User{}, errWrong
	}
	g.limits.giveBack(keys...)
	g.log.Info("signed in", "op", "sign in", "user", name, "from", from)
	return user, nil
}
