package onboard

// unitText is fleet-agent.service. The sandbox is as tight as the agent's work
// allows: it needs the network, its state directory, and Podman's socket below
// /run/user. Containers are children of the user's own systemd and not of this
// unit, so that nothing here confines them and a restart of the agent leaves
// them running. It waits for no network: what is on disk runs first.
const unitText = `# Written by fleetctl onboard.
[Unit]
Description=Fleet agent: runs what the fleet's control plane asks for
Documentation=https://github.com/nationtech/fleetctl
After=network.target systemd-user-sessions.service
# A device is of no use without its agent: never give up starting it.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
User=` + User + `
Group=` + User + `
ExecStart=` + Binary + ` run
Restart=always
RestartSec=2
TimeoutStartSec=120
TimeoutStopSec=30
WatchdogSec=60
UMask=0077
# In memory: what containers have from Secrets. They keep it over a restart.
RuntimeDirectory=fleet-agent
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
OOMScoreAdjust=-500

ProtectSystem=strict
ReadWritePaths=` + Home + `
# Not ProtectHome: it hides /run/user, where Podman's socket is.
InaccessiblePaths=-/home -/root -/boot
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`
