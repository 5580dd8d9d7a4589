import sys; sys.path.insert(0, "/work/main/tests")
import torch
def test_it(problem):
    from off2on.algorithms.edac import EDAC
    for step in (1e-4, 1e-5, 1e-6):
        case = problem(EDAC)
        net = case.nets.critic
        first = case.loss("critic")
        gs = torch.autograd.grad(first, list(net.parameters()))
        norm = torch.cat([g.flatten() for g in gs]).norm()
        for p, g in zip(net.parameters(), gs): p.data -= step * g
        print(step, norm.item(), first.item(), case.loss("critic").item())
    case = problem(EDAC)
    for p, g in zip(case.nets.critic.parameters(), gs): p.data -= 1e-3 * g / norm
    print("1e-3/norm", first.item(), case.loss("critic").item())
