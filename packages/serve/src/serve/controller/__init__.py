"""The one owner of applications, replicas and proxies: decides by the machines of `serve.state`, acts by actors."""
