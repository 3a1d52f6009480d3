"""Studies of graphs: choices undone, operators profiled, and OpenVINO's int8 at its fair best."""
