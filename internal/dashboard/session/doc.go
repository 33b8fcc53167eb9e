// Package session keeps people signed in to the dashboard: sign-in with
// OpenID Connect (code + PKCE), a sealed cookie that holds the session, fresh
// access tokens, tokens against forged requests, and the end of it all. What
// a role allows is decided by who asks.
package session
